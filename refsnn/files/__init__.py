"""Readers of files from any source, which check everything, and writers of whole files.

There is one reader per format: `reading` (bytes and text), `documents` (JSON and TOML, checked
against the rules of `schema`), `arrays` (.npz and .safetensors), which uses `npy`. `writing` writes
files; `unfinished` makes folders in which other folders are prepared.
"""
