"""The power governor against what owners do instead and against clairvoyants: policies × workloads × boxes × plants."""
