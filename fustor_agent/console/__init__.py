"""The console worker: status JSON, metrics and the web console."""
