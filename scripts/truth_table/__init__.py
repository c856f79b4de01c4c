"""Causes faults in a real server under load, and compares what its health endpoints say with what is true."""
