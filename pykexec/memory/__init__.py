"""Physical memory as values: ranges, the memory map, holes, and the files they are read from."""
