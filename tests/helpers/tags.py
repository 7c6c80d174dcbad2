"""A kind of entry with a name and nothing special, as a description of its own makes it."""

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import BigInteger, Column, MetaData, Table, Text

from egress_policy.registry import table
from egress_policy.registry.records import StoredEntry

TAGS = Table(
    "tags",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("color", Text),
    Column("revision", BigInteger, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
)


class Tag(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    color: str = Field(default="grey", pattern="^[a-z]+$")


class TagTable(table.Table[Tag, StoredEntry[Tag]]):
    noun, plural, model, table = "tag", "tags", Tag, TAGS
