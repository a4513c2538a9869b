"""Files from anywhere, read without trust, and files of our own, written whole or not at all.

One reader a format: `reading` (bytes and text), `documents` (JSON and TOML, checked by a `schema`),
`arrays` (.npz and .safetensors) with `npy` inside; `writing` writes.
"""
