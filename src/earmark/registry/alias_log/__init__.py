"""Where the aliases of a registered model are moved, and remembered: `aliases.Aliases` is the way in."""
