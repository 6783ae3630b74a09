"""One module per command of `fustor-agent`; each is imported only when it is asked for."""
