"""Pure functions that decide: no I/O, no clock; time arrives in the snapshot, memory goes in and comes out."""
