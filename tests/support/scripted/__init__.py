"""The scripted engine: a world that behaves as it was told, and two ways for a controller to drive it.

A `World` (traffic, acceptance, costs, what disturbs a machine) runs steps in virtual time. `DirectEngine`
gives its steps to the control core itself; `ScriptedEngine` speaks the real protocol through the real
adapter's client. Either keeps a `Recording`, and `oracle` tries everything in worlds
of the same making: what a controller should have found.
"""
