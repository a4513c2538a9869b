"""Readers of files from any source, which check everything, and writers of whole files.

There is one reader per format: `reading` (bytes and text), `documents` (JSON and TOML, checked
against the rules of `schema`), `arrays` (.npz and .safetensors), which uses `npy`. `writing` writes
files, and `unfinished` makes the folders in which they are prepared.
"""
