"""A folder for PYTHONPATH: its `sitecustomize` runs in the Pythons that build BasicSR, and in no others."""
