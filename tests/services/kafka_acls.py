"""Says on a Kafka with an authorizer who may do what with the topics of one Annals: `kafka_acls.py ADMIN.properties BOOTSTRAP PREFIX`.

The engine runs as User:arbiter, with all its roles; User:pipeline proposes, and reads what became of it.
Nobody but the engine may write the journal and the verdicts; nobody else (User:stranger) may do anything.
"""

import sys

from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType

EXACT, PREFIXED = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
TOPIC, GROUP, TRANSACTION, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID, ResourceType.BROKER


def grants(prefix: str) -> list[AclBinding]:
    """READ and WRITE imply DESCRIBE."""
    wanted = [
        ("arbiter", TOPIC, PREFIXED, f"{prefix}.", ["READ", "WRITE", "CREATE", "DESCRIBE_CONFIGS"]),
        ("arbiter", GROUP, PREFIXED, f"{prefix}.", ["READ"]),
        ("arbiter", TRANSACTION, PREFIXED, f"{prefix}.", ["WRITE"]),
        # How long the brokers let a transaction hang (`annals topics check`).
        ("arbiter", CLUSTER, EXACT, "kafka-cluster", ["DESCRIBE", "DESCRIBE_CONFIGS"]),
        ("pipeline", TOPIC, EXACT, f"{prefix}.proposals", ["WRITE"]),
        # Groups and transactions of its own; not those of the engine, which begin with the prefix and a dot.
        ("pipeline", GROUP, PREFIXED, "pipeline", ["READ"]),
        ("pipeline", TRANSACTION, PREFIXED, "pipeline", ["WRITE"]),
    ]
    wanted += [("pipeline", TOPIC, EXACT, f"{prefix}.{topic}", ["READ"]) for topic in ("verdicts", "promotions", "models", "progress", "journal")]
    return [
        AclBinding(kind, name, pattern, f"User:{user}", "*", AclOperation[operation], AclPermissionType.ALLOW)
        for user, kind, pattern, name, operations in wanted
        for operation in operations
    ]


def main() -> None:
    settings, bootstrap, prefix = sys.argv[1:]
    with open(settings, encoding="utf-8") as lines:
        admin = AdminClient({"bootstrap.servers": bootstrap} | dict(line.rstrip("\n").split("=", 1) for line in lines))
    for done in admin.create_acls(grants(prefix)).values():
        done.result(60)


if __name__ == "__main__":
    main()
