"""How an answer is written: blocks, plain text, or drawn on a terminal."""
