"""Limits of the page, and the error for what is beyond them."""

from __future__ import annotations

import lzma
import zlib
from zipfile import BadZipFile

MB = 2**20
EVENT_BYTES, MODEL_BYTES, UNPACKED_BYTES = 300 * MB, 300 * MB, 500 * MB
"""Size of an uploaded file of events, of a model, and of an archive when it is unpacked."""
SESSION_BYTES = 2000 * MB
"""All uploads of a session, unpacked runs included."""
FILES = 2000
"""Files in an archive, and uploaded event files."""
RATIO = 200
"""Largest factor by which an archive may shrink its content."""
EVENTS = 20_000
"""Events of a study: of more, every second, third … is taken."""
SECONDS = 1800
"""Time of one calculation."""
MEMORY = 6 * 1024 * MB
"""Memory of one calculation, beyond that of the libraries."""
PARALLEL = 2
"""Calculations at a time, of all sessions; others wait."""
CACHE_BYTES = 300 * MB
"""Results that stay in memory."""
CARD_CHARACTERS = 100_000


DAMAGED = (BadZipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError)
"""Errors of archives whose content is not what it should be."""


class RefusedError(ValueError):
    """A file or request that the page does not accept; the message has the remedy."""
