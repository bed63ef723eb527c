"""Boxes of the server: nginx and load balancers in front of the gateway."""

from box import IDLE, PINGS, Box, start_haproxy
from lab import FRONT, HTTP, HTTPS, SERVER, check


class Nginx(Box):
    """In front of the gateway with the classic block, which is right, and a read timeout of 5 seconds."""

    lines = """
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "Upgrade";
        proxy_read_timeout 5s;
    """

    def start(self, lab):
        certificate = lab.settings.certificate
        config = lab.write("nginx.conf", f"""
user root;
worker_processes 1;
daemon off;
pid {lab.folder}/nginx.pid;
error_log {lab.folder}/nginx-error.log;
events {{ worker_connections 100; }}
http {{
    access_log {lab.folder}/nginx-access.log;
    server {{
        listen {HTTPS} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate.with_suffix(".key")};
        location / {{
            proxy_pass http://{SERVER}:{HTTP};
            proxy_set_header Host $host;
            {self.lines}
        }}
    }}
}}
""")
        nginx = lab.start("nginx", lab.box, "nginx", "-c", config, "-e", lab.folder / "nginx-error.log")
        nginx.wait_until("listens", lambda: lab.box.listens(HTTPS))

    def probe(self, lab):
        self.cut(lab, "client_closed", secure=True, name=FRONT)


class NginxWithPings(Nginx):
    """The same, and the route pings clients every second."""

    keepalive = PINGS

    def probe(self, lab):
        self.lasts(lab, secure=True, name=FRONT)


class NginxDefault(Nginx):
    """The classic block without `proxy_read_timeout`: 60 seconds."""

    lines = Nginx.lines.replace("proxy_read_timeout 5s;", "")

    def probe(self, lab):
        answer = self.works(lab, True, name=FRONT)
        seconds = lab.client.call(answer.cut_after, 64)
        check(seconds and 58 < seconds < 63, f"cut after {seconds} s")


class NginxDefaultWithPings(NginxDefault):
    """The same, and the gateway with its own default: a ping every 30 seconds."""

    keepalive = None

    def probe(self, lab):
        # The doctor is asked for how long it lasts.
        self.works(lab, True, name=FRONT).stream.close()


class NginxHttp10(Nginx):
    """Without `proxy_http_version`: nginx asks by HTTP/1.0."""

    lines = """
        proxy_http_version 1.0; # what it does without this line up to version 1.29.6
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "Upgrade";
    """

    def probe(self, lab):
        self.refused_by_gateway(lab, True, name=FRONT)


class NginxWithoutHeaders(Nginx):
    """Without the lines for Upgrade and Connection: nginx takes both off."""

    lines = "proxy_http_version 1.1;"

    def probe(self, lab):
        self.refused_by_gateway(lab, True, name=FRONT)


class NginxUntouched(Nginx):
    """`proxy_pass` alone: both mistakes."""

    lines = ""

    def probe(self, lab):
        self.refused_by_gateway(lab, True, name=FRONT)


class Balancer(Box):
    """A load balancer that ends TLS and cuts quiet WebSockets after 5 seconds."""

    cause = "reset"

    def start(self, lab):
        pem = lab.folder / "front.pem"
        certificate = lab.settings.certificate
        pem.write_bytes(certificate.read_bytes() + certificate.with_suffix(".key").read_bytes())
        start_haproxy(lab, f"""
    timeout tunnel {IDLE}s
frontend front
    bind :{HTTPS} ssl crt {pem}
    default_backend gateway
backend gateway
    server gateway {SERVER}:{HTTP}
""", HTTPS)

    def probe(self, lab):
        self.cut(lab, self.cause, secure=True, name=FRONT)


class BalancerWithPings(Balancer):
    """The same, and the route pings clients every second."""

    keepalive = PINGS

    def probe(self, lab):
        self.lasts(lab, secure=True, name=FRONT)


class Layer4(Balancer):
    """A load balancer that passes TLS on and cuts quiet connections after 5 seconds."""

    cause = "client_closed"

    def start(self, lab):
        start_haproxy(lab, f"""
    mode tcp
    timeout client {IDLE}s
    timeout server {IDLE}s
frontend front
    bind :{HTTPS}
    default_backend gateway
backend gateway
    server gateway {SERVER}:{HTTPS}
""", HTTPS)


class Layer4WithPings(Layer4):
    keepalive = PINGS

    def probe(self, lab):
        self.lasts(lab, secure=True, name=FRONT)
