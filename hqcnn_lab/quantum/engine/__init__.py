"""What runs a circuit: each module an engine, or what engines share."""
