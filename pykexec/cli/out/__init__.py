"""How a result is written: as blocks, plain text, or drawn on a terminal."""
