"""Calls of the public face that a type checker has to accept; never run."""
