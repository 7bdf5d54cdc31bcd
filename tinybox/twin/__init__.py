"""The digital twin: a physics plant shown to the real code through the interfaces of a real machine."""
