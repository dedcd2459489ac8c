"""The way to SQS, found in the environment and in configuration files."""

from __future__ import annotations

import pytest

from fanfold.brokers.route import Proxy, find_route, proxy_for, route_to
from fanfold.errors import ConfigurationError

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/tasks.fifo"
LOCAL = "http://localhost:4566/1/tasks.fifo"


@pytest.fixture(autouse=True)
def environment(no_aws):
    """Nothing of this machine's own settings."""
    return no_aws


def way(url=URL, *, region=None):
    route = find_route(url, region=region)
    return f"{'https' if route.tls else 'http'}://{route.authority}{route.path}", route.region


def configure(tmp_path, text):
    (tmp_path / "config").write_text(text)


@pytest.mark.parametrize(
    ("url", "endpoint", "region"),
    [
        (URL, "https://sqs.eu-west-1.amazonaws.com/", "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/t.fifo", "https://sqs.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
        ("https://sqs-fips.us-east-1.amazonaws.com/1/t.fifo", "https://sqs-fips.us-east-1.amazonaws.com/", "us-east-1"),
        ("https://sqs.us-east-1.api.aws/1/t.fifo", "https://sqs.us-east-1.api.aws/", "us-east-1"),
        (
            "https://vpce-0a1b-2c.sqs.eu-west-1.vpce.amazonaws.com/1/t.fifo",
            "https://vpce-0a1b-2c.sqs.eu-west-1.vpce.amazonaws.com/",
            "eu-west-1",
        ),
        (LOCAL, "http://localhost:4566/", "us-east-1"),
        ("http://[::1]:9324/1/t.fifo", "http://[::1]:9324/", "us-east-1"),
        ("https://sqs.example.org:443/1/t.fifo", "https://sqs.example.org/", "us-east-1"),
    ],
)
def test_the_endpoint_and_the_region_come_from_the_queues_url(url, endpoint, region):
    assert way(url) == (endpoint, region)


def test_a_given_region_goes_before_the_urls():
    assert way(region="us-west-2") == ("https://sqs.us-west-2.amazonaws.com/", "us-west-2")


def test_a_url_without_a_region_takes_the_environments(environment):
    environment.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    assert way(LOCAL) == ("http://localhost:4566/", "eu-north-1")


def test_a_url_without_a_region_takes_the_profiles(environment, tmp_path):
    configure(tmp_path, "[profile work]\nregion = eu-south-1\n")
    environment.setenv("AWS_PROFILE", "work")
    assert way(LOCAL) == ("http://localhost:4566/", "eu-south-1")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"])
def test_the_environment_may_name_the_endpoint_of_a_public_queue(environment, name):
    environment.setenv(name, "http://127.0.0.1:4566/prefix")
    assert way() == ("http://127.0.0.1:4566/prefix", "eu-west-1")


def test_an_endpoint_for_sqs_goes_before_one_for_all_services(environment):
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    environment.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:2")
    assert way()[0] == "http://127.0.0.1:2/"


def test_a_host_that_is_not_amazons_is_asked_itself_whatever_the_environment_names(environment):
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert way(LOCAL)[0] == "http://localhost:4566/"


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("AWS_USE_FIPS_ENDPOINT", "https://sqs-fips.us-east-1.amazonaws.com/"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "https://sqs.us-east-1.api.aws/"),
    ],
)
def test_fips_and_dual_stack_endpoints_can_be_asked_for(environment, name, endpoint):
    environment.setenv(name, "true")
    assert way("https://sqs.us-east-1.amazonaws.com/1/t.fifo") == (endpoint, "us-east-1")


def test_a_profile_that_is_not_there_is_a_configuration_error(environment):
    environment.setenv("AWS_PROFILE", "nowhere")
    with pytest.raises(ConfigurationError, match=r"nowhere.*AWS_PROFILE"):
        find_route(URL, region=None)


def test_a_host_that_botocore_refuses_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="no SQS client"):
        find_route("http://my_queue_:x/1/tasks.fifo", region=None)


# --- whom to trust


def test_without_settings_those_are_trusted_whom_botocore_trusts():
    assert find_route(URL, region=None).authorities.endswith("cacert.pem")


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_the_environment_may_name_the_authorities(environment, name):
    environment.setenv(name, "/etc/ours.pem")
    assert find_route(URL, region=None).authorities == "/etc/ours.pem"


def test_the_profile_may_name_the_authorities_and_goes_before_what_is_meant_for_requests(environment, tmp_path):
    configure(tmp_path, "[default]\nca_bundle = /etc/profile.pem\n")
    environment.setenv("REQUESTS_CA_BUNDLE", "/etc/requests.pem")
    assert find_route(URL, region=None).authorities == "/etc/profile.pem"


# --- proxies


@pytest.mark.parametrize(
    ("said", "proxy"),
    [
        ("http://proxy:3128", Proxy(host="proxy", port=3128, tls=False)),
        ("proxy:3128", Proxy(host="proxy", port=3128, tls=False)),
        ("//proxy", Proxy(host="proxy", port=80, tls=False)),
        ("https://proxy", Proxy(host="proxy", port=443, tls=True)),
        ("http://[::1]:8", Proxy(host="::1", port=8, tls=False)),
        (
            "http://me:p%40ss@proxy:1",
            Proxy(host="proxy", port=1, tls=False, authorization="Basic bWU6cEBzcw=="),
        ),
        ("http://me@proxy:1", Proxy(host="proxy", port=1, tls=False)),
    ],
)
def test_a_proxy_comes_from_the_environment(environment, said, proxy):
    environment.setenv("HTTPS_PROXY", said)
    assert find_route(URL, region=None).proxy == proxy


def test_each_scheme_has_its_own_proxy(environment):
    environment.setenv("HTTP_PROXY", "http://plain:1")
    environment.setenv("HTTPS_PROXY", "http://tunnel:2")
    assert [proxy_for(url).host for url in ("http://queue", "https://queue")] == ["plain", "tunnel"]


@pytest.mark.parametrize("excepted", ["*", "localhost", "localhost:4566", ".org,localhost"])
def test_some_hosts_need_no_proxy(environment, excepted):
    environment.setenv("HTTP_PROXY", "http://proxy:1")
    environment.setenv("NO_PROXY", excepted)
    assert find_route(LOCAL, region=None).proxy is None


def test_without_settings_there_is_no_proxy():
    assert find_route(URL, region=None).proxy is None


@pytest.mark.parametrize("said", ["socks5://me:secret@proxy:1", "http://:1"])
def test_a_proxy_that_can_not_be_used_is_a_configuration_error_that_keeps_the_password(environment, said):
    environment.setenv("HTTPS_PROXY", said)
    with pytest.raises(ConfigurationError, match=r"HTTPS_PROXY.*NO_PROXY") as raised:
        find_route(URL, region=None)
    assert "secret" not in str(raised.value)


def test_a_proxys_port_is_checked(environment):
    environment.setenv("HTTPS_PROXY", "http://proxy:99999")
    with pytest.raises(ConfigurationError, match=r"the proxy proxy: .*65535"):
        find_route(URL, region=None)


def test_a_password_shows_in_no_text(environment):
    environment.setenv("HTTPS_PROXY", "http://me:secret@proxy:1")
    assert "bWU6" not in repr(find_route(URL, region=None))


def test_a_proxy_that_forwards_in_clear_is_told_the_whole_url_and_who_we_are_and_one_that_tunnels_neither():
    proxy = Proxy(host="proxy", port=1, tls=False, authorization="Basic x")

    def told(endpoint, **through):
        route = route_to(endpoint, region="r", authorities="", **through)
        return route.target, route.headers

    assert told("http://queue:4566", proxy=proxy) == ("http://queue:4566/", "proxy-authorization:Basic x\r\n")
    assert told("https://queue", proxy=proxy) == ("/", "")
    assert told("http://queue:4566") == ("/", "")
    assert told("http://queue", proxy=Proxy(host="proxy", port=1, tls=False)) == ("http://queue/", "")
