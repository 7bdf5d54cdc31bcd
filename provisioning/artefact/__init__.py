"""One signed, seekable file made of an image: `docs/protocol/artefact.md` says how it lies in the file."""
