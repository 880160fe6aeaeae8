"""An hour's worth of faults in ten minutes over a whole set of services: `python -m tests.soak --minutes 10`."""
