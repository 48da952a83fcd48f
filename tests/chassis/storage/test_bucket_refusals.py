"""What stands between konomi and a bucket is said in words, at the start and later; and no word holds a secret."""

import json
import logging
import subprocess
import sys

import boto3
import pytest
import s3fs

from konomi.errors import FailedPrecondition, Unavailable
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.buckets.s3_refusals import refusal
from tests.chassis.storage.s3_servers import KEY, SECRET, moto_server

BUCKET = "guarded"
READS = ["s3:GetObject", "s3:ListBucket"]
SETUP_CALLS = 10


@pytest.fixture(scope="module")
def guarded():
    """A server that checks who asks, with a user who may all, one who may read, one who may nothing."""
    with moto_server(INITIAL_NO_AUTH_ACTION_COUNT=str(SETUP_CALLS)) as place:
        place.client().create_bucket(Bucket=BUCKET)
        iam = boto3.client(
            "iam",
            endpoint_url=place.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )
        users = {}
        for name, actions in {"owner": ["s3:*"], "reader": READS, "nobody": []}.items():
            iam.create_user(UserName=name)
            if actions:
                statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
                document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
                iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=document)
            made = iam.create_access_key(UserName=name)["AccessKey"]
            users[name] = (made["AccessKeyId"], made["SecretAccessKey"])
        yield place.endpoint, users


@pytest.fixture
def sign_in(monkeypatch, tmp_path):
    """Sets the credentials of this test alone."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no config"))

    def use(key, secret):
        s3fs.S3FileSystem.clear_instance_cache()
        for name, value in (("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)):
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    yield use
    s3fs.S3FileSystem.clear_instance_cache()


def opened(home, endpoint, bucket=BUCKET, **more):
    settings = {"url": f"s3://{bucket}", "endpoint": endpoint, "region": "us-east-1", "retry_seconds": 1.0, **more}
    return ArtifactStore(StoreSettings(home=home, min_free_bytes=0, **settings))


def refused(home, endpoint, bucket=BUCKET, error=FailedPrecondition, **more):
    with pytest.raises(error) as caught:
        opened(home, endpoint, bucket, **more)
    return caught.value


def test_who_may_all_is_served(guarded, sign_in, tmp_path):
    endpoint, users = guarded
    sign_in(*users["owner"])
    assert opened(tmp_path, endpoint).get(opened(tmp_path, endpoint).put(b"x", "image/png").digest) == b"x"


@pytest.mark.parametrize("wrong", ["key", "secret"])
def test_wrong_credentials_are_named_and_not_shown(guarded, sign_in, tmp_path, wrong):
    endpoint, users = guarded
    key, secret = users["owner"]
    sign_in("WRONG-KEY-000000000" if wrong == "key" else key, "wrong/secret/wrong" if wrong == "secret" else secret)
    error = refused(tmp_path, endpoint)
    assert error.reason == "STORE_CREDENTIALS"
    assert f"{endpoint} does not know the credentials for bucket guarded" in error.message
    assert "AWS_ACCESS_KEY_ID" in error.message and secret not in error.message and key not in error.message
    assert "wrong/secret" not in error.message and "WRONG-KEY" not in error.message


def test_no_credentials_at_all(guarded, sign_in, tmp_path):
    sign_in(None, None)
    error = refused(tmp_path, guarded[0])
    assert error.reason == "STORE_CREDENTIALS" and "Set AWS_ACCESS_KEY_ID" in error.message


def test_half_the_credentials(guarded, sign_in, tmp_path):
    sign_in("ONLY-HALF-00000000", None)
    assert refused(tmp_path, guarded[0]).reason == "STORE_CREDENTIALS"


def test_a_profile_nobody_knows(guarded, sign_in, tmp_path, monkeypatch):
    sign_in(None, None)
    monkeypatch.setenv("AWS_PROFILE", "nobody-knows-it")
    assert refused(tmp_path, guarded[0]).reason == "STORE_CREDENTIALS"


def test_no_rights(guarded, sign_in, tmp_path):
    endpoint, users = guarded
    sign_in(*users["nobody"])
    error = refused(tmp_path, endpoint)
    assert error.reason == "STORE_PERMISSION"
    assert "denies access to bucket guarded. The credentials need s3:GetObject, s3:PutObject" in error.message


def test_a_reader_reads_and_is_told_that_it_may_not_put(guarded, sign_in, tmp_path):
    endpoint, users = guarded
    sign_in(*users["owner"])
    digest = opened(tmp_path / "owner", endpoint).put(b"kept", "image/png").digest
    sign_in(*users["reader"])
    store = opened(tmp_path / "reader", endpoint)
    assert store.get(digest) == b"kept"
    with pytest.raises(FailedPrecondition) as caught:
        store.put(b"new", "image/png")
    assert caught.value.reason == "STORE_PERMISSION"


def test_a_reader_cannot_begin_a_store(guarded, sign_in, tmp_path):
    endpoint, users = guarded
    sign_in(*users["reader"])
    assert refused(tmp_path, endpoint, "guarded/new").reason == "STORE_PERMISSION"


@pytest.mark.slow
@pytest.mark.parametrize("server", ["moto", "rclone"])
def test_a_bucket_that_is_not_there(request, sign_in, tmp_path, server):
    place = request.getfixturevalue(server)
    sign_in(KEY, SECRET)
    error = refused(tmp_path, place.endpoint, "nobody-made-it")
    assert error.reason == "STORE_BUCKET"
    assert f"{place.endpoint} has no bucket nobody-made-it. Make it, or name another" in error.message


def test_another_server_s_wrong_credentials(rclone, sign_in, tmp_path):
    sign_in(KEY, "wrong")
    assert refused(tmp_path, rclone.endpoint, rclone.bucket).reason == "STORE_CREDENTIALS"


def test_rights_that_are_taken_away_later(guarded, sign_in, tmp_path):
    endpoint, users = guarded
    sign_in(*users["owner"])
    store = opened(tmp_path, endpoint, node_cache_bytes=0)
    digest = store.put(b"kept", "image/png").digest
    sign_in(*users["nobody"])
    store._blobs._objects._system = s3fs.S3FileSystem(
        client_kwargs={"endpoint_url": endpoint, "region_name": "us-east-1"}, skip_instance_cache=True
    )
    for ask in (lambda: store.get(digest), lambda: store.exists(digest), lambda: store.put(b"new", "image/png")):
        with pytest.raises(FailedPrecondition) as caught:
            ask()
        assert caught.value.reason == "STORE_PERMISSION"


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        ("PermanentRedirect", "STORE_REGION", "Set [store] region"),
        ("RequestTimeTooSkewed", "STORE_CLOCK", "Set the clock"),
        ("ExpiredToken", "STORE_CREDENTIALS", "(ExpiredToken)"),
        ("SlowDown", "STORE_REFUSED", "answered SlowDown"),
    ],
)
def test_what_no_server_here_says_has_its_words_too(code, reason, words):
    class Answer(Exception):
        response = {"Error": {"Code": code, "Message": f"{SECRET} is what you sent"}}  # noqa: RUF012

    error = refusal(Answer(), "b", "Amazon S3")
    assert error.reason == reason and words in error.message and SECRET not in error.message
    assert isinstance(error, Unavailable) is (reason == "STORE_REFUSED")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://" + "SOMEKEY:secret" + "@bucket/x", "[store] url holds credentials"),
        ("s3:///folder", 'such as "s3://bucket/folder" was expected'),
        ("s3://bucket?versionId=1", 'or with "?" or "#", came'),
        ("nonsense://bucket", 'one of the kind "nonsense" came'),
    ],
)
def test_a_url_that_is_none_of_a_store(tmp_path, url, words):
    with pytest.raises(FailedPrecondition) as caught:
        ArtifactStore(StoreSettings(home=tmp_path, url=url))
    assert caught.value.reason == "STORE_URL" and words in caught.value.message
    assert "secret" not in caught.value.message and "SOMEKEY" not in caught.value.message


def test_without_the_extra_the_line_that_brings_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("konomi_chassis.storage.buckets.opening.find_spec", lambda _module: None)
    with pytest.raises(FailedPrecondition) as caught:
        ArtifactStore(StoreSettings(home=tmp_path, url="s3://bucket"))
    assert caught.value.reason == "MISSING_EXTRA" and "run: pip install 'konomi[s3]'" in caught.value.message


def test_another_kind_of_store_whose_package_is_missing(tmp_path):
    with pytest.raises(FailedPrecondition) as caught:
        ArtifactStore(StoreSettings(home=tmp_path, url="gs://bucket"))
    assert caught.value.reason == "MISSING_EXTRA" and "begins with gs://" in caught.value.message
    assert "Please install gcsfs" in caught.value.message


def test_no_log_at_any_level_holds_the_secret(guarded, sign_in, tmp_path, caplog):
    endpoint, users = guarded
    caplog.set_level(logging.DEBUG)
    sign_in(*users["owner"])
    store = opened(tmp_path, endpoint)
    store.get(store.put(b"x" * 1000, "image/png").digest)
    sign_in(users["owner"][0], "wrong/secret/wrong")
    refused(tmp_path, endpoint)
    assert "put_object" in caplog.text.lower() or "putobject" in caplog.text.lower(), "nothing was logged"
    assert users["owner"][1] not in caplog.text and "wrong/secret" not in caplog.text
    settings = StoreSettings(home=tmp_path, url="s3://bucket")
    assert users["owner"][1] not in repr(settings)


@pytest.mark.slow
def test_a_role_says_it_and_does_not_start(moto, sign_in, tmp_path):
    sign_in(KEY, SECRET)
    (tmp_path / "konomi.toml").write_text(
        f'[store]\nurl = "s3://nobody-made-it"\nendpoint = "{moto.endpoint}"\nregion = "us-east-1"\n', "utf-8"
    )
    command = [sys.executable, "-m", "konomi_generator", "--home", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 78 and "generator cannot start: " in ran.stderr
    assert "has no bucket nobody-made-it" in ran.stderr and "Traceback" not in ran.stderr


def test_a_home_without_a_bucket_loads_nothing_of_s3(tmp_path):
    code = (
        "import sys; from pathlib import Path; from konomi_chassis.settings import StoreSettings; "
        "from konomi_chassis.storage.artifacts import ArtifactStore; "
        "ArtifactStore(StoreSettings(home=Path(sys.argv[1]), min_free_bytes=0)).put(b'x', 'image/png'); "
        "print([m for m in ('s3fs', 'botocore', 'aiohttp', 'stamina', 'ray', 'fsspec') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "[]\n"
