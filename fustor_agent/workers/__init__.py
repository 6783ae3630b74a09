"""The main functions of the workers, one module each."""
