"""Grids in RAS millimetres, transforms between spaces, and regions on grids."""
