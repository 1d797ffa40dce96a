"""A private WebDAV NAS: Apache over TLS, with a certificate of an authority of its own, on a free loopback port."""

import os
import pathlib
import secrets
import socket
import time

from nas import CannotStart, FolderNAS, free_port, run

_MODULES = pathlib.Path("/usr/lib/apache2/modules")


class PrivateWebDAV(FolderNAS):
    """A running Apache with mod_dav. The runs go to `folder`, which is `/lab` on it."""

    program = "/usr/sbin/apache2"
    sending = "Each run goes to a hidden folder on the NAS, is read back and compared, and appears under its name in one step."

    def __init__(self, base, tls=True):
        super().__init__(base)
        self.tls = tls
        self.log = self.base / "nas" / "error.log"
        self.user = "labuser"
        self.password_file, self.ca_file = self.keys / "password", self.keys / "ca.pem"

    @property
    def address(self):
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}/lab"

    @property
    def transport(self):
        """The section of an instrument's profile."""
        section = {"type": "webdav", "url": self.address, "user": self.user, "password": f"file:{self.password_file}"}
        section |= {"ca_file": str(self.ca_file)} if self.tls else {"insecure": True}
        return section | {"connections": 2}

    def start(self):
        """Makes keys, starts the server and waits until it answers. Raises CannotStart."""
        self.keys.mkdir(mode=0o700, parents=True)
        for folder in (self.folder, self.folder.parent / "run"):
            folder.mkdir(parents=True)
            # Apache works under an account of its own where it is started by root.
            folder.chmod(0o777)
        password = secrets.token_hex(16)
        descriptor = os.open(self.password_file, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(password + "\n")
        # Apache's own fast form of MD5: with bcrypt, every request would cost more than it carries.
        (self.keys / "users").write_text(f"{self.user}:{run(['openssl', 'passwd', '-apr1', '-stdin'], input=password).strip()}\n")
        if self.tls:
            self._make_certificates()
        if not pathlib.Path(self.program).exists():
            raise CannotStart(f"there is no {self.program} on this machine; scripts/install-dependencies installs it")
        for _ in range(5):
            self.port = free_port()
            (self.keys / "httpd.conf").write_text(self._configuration())
            with open(self.log, "ab") as log:
                self.launch(self._command(), stdout=log, stderr=log)
            if self._wait_until_it_answers():
                return
            # Another program may have taken the port between the look and the start.
            reason = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["no answer"]
            self.stop()
        raise CannotStart(f"{self.program} did not start: {reason[0]}")

    def _command(self):
        return [*self._account(), self.program, "-f", str(self.keys / "httpd.conf"), "-DFOREGROUND"]

    @staticmethod
    def _account():
        """Apache refuses to work as root; its own account may still come into the demo's folder, which is root's."""
        if os.geteuid() != 0:
            return []
        abilities = "+dac_override,+fowner"
        return ["setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups", f"--inh-caps={abilities}", f"--ambient-caps={abilities}"]

    def _make_certificates(self):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        keys = self.keys
        run(["openssl", "req", "-x509", "-days", "2", "-subj", "/CN=Demo authority", "-keyout", f"{keys}/ca.key", "-out", str(self.ca_file), *key])
        run(["openssl", "req", "-subj", "/CN=demo NAS", "-keyout", f"{keys}/server.key", "-out", f"{keys}/server.csr", *key])
        (keys / "extensions").write_text(f"subjectAltName=IP:{self.host}\n")
        run([
            "openssl", "x509", "-req", "-days", "2", "-in", f"{keys}/server.csr", "-CA", str(self.ca_file), "-CAkey", f"{keys}/ca.key",
            "-CAcreateserial", "-out", f"{keys}/server.pem", "-extfile", f"{keys}/extensions",
        ])  # fmt: skip

    def _configuration(self):
        modules = "mpm_event authn_core authn_file authz_core authz_user auth_basic ssl dav dav_fs".split()
        scratch = self.folder.parent / "run"
        tls = f"SSLEngine on\nSSLCertificateFile {self.keys}/server.pem\nSSLCertificateKeyFile {self.keys}/server.key\n" if self.tls else ""
        return (
            "".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so\n" for name in modules)
            + f"""ServerRoot {self.keys}
ServerName localhost
PidFile {scratch}/pid
DefaultRuntimeDir {scratch}
Mutex file:{scratch} default
ErrorLog {self.log}
Listen {self.host}:{self.port}
StartServers 1
ServerLimit 1
ThreadsPerChild 64
MaxRequestWorkers 64
MaxKeepAliveRequests 0
KeepAliveTimeout 20
DavLockDB {scratch}/locks
DocumentRoot {self.folder.parent}
AllowEncodedSlashes NoDecode
LimitXMLRequestBody 0
{tls}<Directory {self.folder}>
Dav On
DavDepthInfinity On
AuthType Basic
AuthName lab
AuthUserFile {self.keys}/users
Require valid-user
</Directory>
"""
        )

    def _wait_until_it_answers(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.runs:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
                return self.runs
            except OSError:
                time.sleep(0.05)
        return False


class PrivateNginx(PrivateWebDAV):
    """The same with nginx and its dav modules, over plain HTTP: for measurements."""

    program = "/usr/sbin/nginx"

    def __init__(self, base):
        super().__init__(base, tls=False)

    def _command(self):
        return [self.program, "-c", str(self.keys / "httpd.conf"), "-e", str(self.log)]

    def _configuration(self):
        scratch = self.folder.parent / "run"
        temporary = "".join(f"{kind}_temp_path {scratch}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return f"""load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
daemon off; {"user root;" if os.geteuid() == 0 else ""} worker_processes 1; pid {scratch}/pid; error_log {self.log};
events {{ worker_connections 512; }}
http {{
  access_log off; {temporary} client_max_body_size 0; keepalive_requests 1000000; dav_ext_lock_zone zone=locks:1m;
  server {{
    listen {self.host}:{self.port};
    location / {{
      root {self.folder.parent}; dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS LOCK UNLOCK;
      dav_ext_lock zone=locks; create_full_put_path off; auth_basic lab; auth_basic_user_file {self.keys}/users;
    }}
  }}
}}
"""
