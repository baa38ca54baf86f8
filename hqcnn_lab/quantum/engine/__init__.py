"""What runs a circuit.

The engines are `trig`, `statevector`, `folded` and `torchquantum` (`limits.ENGINES`), and `density` where there is
noise. Each has a function `expectations`. The other modules are what engines share: `plan` (a circuit as few large
steps), `gates` (matrices), `evolve` and `in_place` (steps on states), `workspace` (memory that is used again) and
`transform` (what torch does with the operations besides running them).
"""
