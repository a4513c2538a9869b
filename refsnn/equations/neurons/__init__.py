"""Neurons with parameters, which are learnt with the weights: a file for each method."""

from refsnn.equations.neurons.base import Neuron
from refsnn.equations.neurons.diet import Diet
from refsnn.equations.neurons.glif import GLIF
from refsnn.equations.neurons.mpbn import MPBN
from refsnn.equations.neurons.plif import PLIF
from refsnn.equations.neurons.real_spike import RealSpike

__all__ = ["NEURONS", "MPBN", "PLIF", "GLIF", "Diet", "Neuron", "RealSpike"]

NEURONS: dict[str, type[Neuron]] = {
    "plif": PLIF,
    "glif": GLIF,
    "diet": Diet,
    "mpbn": MPBN,
    "real_spike": RealSpike,
}
