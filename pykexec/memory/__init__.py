"""Physical memory as values: ranges, the memory map, holes, and the texts they come from."""
