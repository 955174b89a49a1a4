"""The driver: executes a traced graph on any engine.

`core` decides: events in, instructions out, without threads, clock, engine or store. `loop` is the thread around it.
"""
