"""A headless Chromium for a test, driven over the WebDriver protocol with nothing but urllib.

It talks to the node under test and to nobody else: everything that the browser would do on its own
account is switched off.
"""

import json
import pathlib
import re
import select
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from ports import free_port

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--window-size=1200,900"]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of a reference (W3C WebDriver, 12.1)
START_S = 30


class BrowserError(Exception):
    pass


class Browser:
    def __init__(self):
        self.profile = tempfile.TemporaryDirectory(prefix="tc-browser-")
        self.session = None
        self.driver = subprocess.Popen(["chromedriver", f"--port={free_port()}"],
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       stdin=subprocess.DEVNULL)
        try:
            self.base = f"http://127.0.0.1:{self._driver_port()}"
            self.session = self._begin()
        except BaseException:
            self.close()
            raise

    def _driver_port(self):
        deadline = time.monotonic() + START_S
        said = b""
        while time.monotonic() < deadline:
            if not select.select([self.driver.stdout], [], [], 0.1)[0]:
                continue
            line = self.driver.stdout.readline()
            said += line
            found = re.search(rb"started successfully on port (\d+)", line)
            if found:
                return int(found.group(1))
            if not line:
                break
        raise BrowserError(f"chromedriver did not start: {said!r}")

    def _begin(self):
        options = {"args": [*FLAGS, f"--user-data-dir={self.profile.name}"]}
        capabilities = {"browserName": "chrome", "goog:chromeOptions": options}
        value = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        return value["sessionId"]

    def _call(self, method, path, body=None):
        request = urllib.request.Request(
            self.base + path, method=method, headers={"Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=START_S) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise BrowserError(f"{value['error']}: {value['message']}") from None

    def command(self, method, path, body=None):
        return self._call(method, f"/session/{self.session}{path}", body)

    def open(self, url):
        self.command("POST", "/url", {"url": url})

    def run(self, script, *args):
        """Runs the body of a function in the page and returns what it returns."""
        return self.command("POST", "/execute/sync", {"script": script, "args": list(args)})

    def text(self, css):
        """The text of an element, or None when there is none."""
        return self.run("const e = document.querySelector(arguments[0]);"
                        "return e === null ? null : e.textContent;", css)

    def type(self, css, text):
        """Real keys to an element; "\\ue007" is Enter."""
        found = self.command("POST", "/element", {"using": "css selector", "value": css})
        self.command("POST", f"/element/{found[ELEMENT]}/value", {"text": text})

    def click(self, css):
        found = self.command("POST", "/element", {"using": "css selector", "value": css})
        self.command("POST", f"/element/{found[ELEMENT]}/click", {})

    def errors(self):
        """What the page wrote to the console as an error: exceptions, refused resources."""
        entries = self.command("POST", "/se/log", {"type": "browser"})
        return [e["message"] for e in entries if e["level"] == "SEVERE"]

    def screenshot(self, path):
        import base64
        pathlib.Path(path).write_bytes(base64.b64decode(self.command("GET", "/screenshot")))

    def close(self):
        try:
            if self.session is not None:
                self.command("DELETE", "")
        except (BrowserError, OSError):
            pass
        self.driver.terminate()
        try:
            self.driver.wait(10)
        except subprocess.TimeoutExpired:
            self.driver.kill()
            self.driver.wait(10)
        self.driver.stdout.close()
        self.profile.cleanup()
