"""The version of this project, in one place."""

VERSION = "0.1.0"
