"""The paper's equations as plain loops over Python numbers, for comparison with refsnn."""
