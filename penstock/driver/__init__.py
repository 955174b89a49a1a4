"""The driver: what brings a traced graph forward, on any engine.

`core` decides: events in, instructions out, no thread, no clock, no engine, no store. `loop` is the thread around it.
"""
