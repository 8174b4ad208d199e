"""What happens after the switch: relocation, stub, capture kernel."""
