"""Methods for particles and pairs of particles."""
