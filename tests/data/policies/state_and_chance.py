"""Two policies whose answers do not repeat: state that all share, and chance without a seed."""

import random


class Shared:
    asked = 0

    def drain(self, point: object, sender: object) -> int | None:
        Shared.asked += 1
        return 0 if Shared.asked % 7 == 0 else None


class Chance:
    def drain(self, point: object, sender: object) -> int | None:
        return 0 if random.random() < 0.1 else None
