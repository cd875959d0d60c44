import pytest

from earmark.addresses import without_passwords


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://alice:s3cr3t@127.0.0.1:9 is down", "http://127.0.0.1:9 is down"),
        ("'postgresql+psycopg://mlflow:s3%40cr3t@host/db'", "'postgresql+psycopg://host/db'"),
        ("https://token@git.example.org/a.git and ssh://git@host/b", "https://git.example.org/a.git and ssh://host/b"),
        ("https://host/path@2 at 10:00", "https://host/path@2 at 10:00"),
        ("mail someone@example.org", "mail someone@example.org"),
        ("models:/earmark@champion", "models:/earmark@champion"),
    ],
)
def test_users_and_passwords_go_and_everything_else_stays(text, expected):
    assert without_passwords(text) == expected
