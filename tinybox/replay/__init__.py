"""The governor closed over a plant, or over whatever speaks JSON lines; and what a clairvoyant would have done."""
