"""Reading what OpenClaw's own gateway keeps, so that its devices can go on here: `stores`, then `records`, then `moving`."""
