"""
What a program needs around its supervisor, whatever it supervises.

Its command line's ends and errors, its PID file, its way into the background and out of it, its log,
its files, and reading a configuration with all errors at once.
"""
