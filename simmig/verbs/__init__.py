"""The verbs room: what the migration is handed (`runtime`, `api`) and who hands it over (`sim`)."""

from typing import Literal

ProfileName = Literal["ideal", "rxe", "mlx5"]
"""How a simulated device behaves; `sim.profiles` has them."""
