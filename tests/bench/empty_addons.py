"""A script with five addons that have no hooks: what mitmproxy's walk past addons costs."""


class Empty:
    def __init__(self, number: int) -> None:
        self.name = f"empty-{number}"


addons = [Empty(number) for number in range(5)]
