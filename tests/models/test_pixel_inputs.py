"""Lit pixels in torch: the images are those of the events, in any order."""

from __future__ import annotations

import numpy as np
import torch
from image_events import make_images

from hepxai.core.chunks import chunk_rows
from hepxai.models.image.pixels import Pixels


def test_images_are_those_of_the_events() -> None:
    events = make_images()
    pixels, images = Pixels.of(events), events.image()
    for rows in ([0], [5, 5, 9, 0], list(range(60)), []):
        found = pixels.take(torch.as_tensor(rows, dtype=torch.int64))
        np.testing.assert_array_equal(found.numpy(), images[rows])


def test_hits_outside_light_nothing() -> None:
    events = make_images()
    particles = events.particles.copy()
    particles[::3, 1] = 4000
    moved = events.replace(particles=particles)
    found = Pixels.of(moved).take(torch.arange(60))
    np.testing.assert_array_equal(found.numpy(), moved.image())


def test_a_pixel_takes_four_bytes_and_chunks_64_images() -> None:
    events = make_images(200)
    pixels = Pixels.of(events)
    assert pixels.pixel.nbytes == 4 * events.n_particles
    assert [len(c) for c in chunk_rows(pixels.counts.numpy())] == [64, 64, 64, 8]
    assert len(pixels) == 200


def test_no_events() -> None:
    empty = Pixels.of(make_images()[:0])
    assert empty.take(torch.arange(0)).shape == (0, 1, 6, 40)
