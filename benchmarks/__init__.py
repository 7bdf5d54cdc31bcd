"""How fast and how light: run by `make bench`, never by the tests."""
