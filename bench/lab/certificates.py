"""An authority and certificates of nodes, made by `celslm cert`."""
import ssl
import subprocess


class Certificates:
    """An authority and its nodes, made by `celslm cert`."""

    def __init__(self, binary, folder):
        self._binary, self.folder = binary, folder
        self._run("authority", folder)
        self.authority = folder / "authority.pem"

    def _run(self, *arguments):
        subprocess.run([self._binary, "cert", *map(str, arguments)], check=True, capture_output=True)

    def node(self, name):
        """Files of a certificate and its key, for a node on this machine."""
        self._run("node", self.folder, "--name", name, "--ip", "127.0.0.1")
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def serving(self, name):
        """Options of a server with a certificate of its own."""
        certificate, key = self.node(name)
        return "--tls-cert", certificate, "--tls-key", key

    def context(self, certificate=None):
        """For Python's client: trusts the authority, and shows this certificate."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if certificate:
            context.load_cert_chain(*map(str, certificate))
        return context
