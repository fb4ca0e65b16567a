"""How long a message takes, in both deployments: `load` measures, `report` shows."""
