"""Runs the command with --metrics, scrapes it as long as it runs, and says what is wrong.

    scrape.py PROGRAM ARGUMENT...

Each text is read by Prometheus's own parser for OpenMetrics. Counters must never fall, and the last
text must say what the report says. Prints `good: SCRAPES scrapes` and ends with 0, or with the first
thing that is wrong.
"""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

SECONDS_MAX = 60
CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def fail(text):
    print(f"bad: {text}")
    sys.exit(1)


def scrape(address):
    with urllib.request.urlopen(address, timeout=5) as answer:
        if answer.headers["Content-Type"] != CONTENT_TYPE:
            fail(f"content type {answer.headers['Content-Type']}")
        return answer.read().decode()


def refused(address, method="GET"):
    try:
        urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=5)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def samples(text):
    result = {}
    for family in text_string_to_metric_families(text):
        if not family.documentation:
            fail(f"{family.name} has no help")
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            if key in result:
                fail(f"{key} is there twice")
            result[key] = (family.type, sample.value)
    return result


def compare(last, report):
    def value(name, **labels):
        found = last.get((name, tuple(sorted(labels.items()))))
        return None if found is None else found[1]

    ram = report["ram"]
    expected = []
    if "source" in report:
        expected += [
            ("sent bytes", value("postcopy_sent_bytes_total", side="source"), ram["transferred"]),
            ("requests", value("postcopy_requests_total", side="source"), ram["postcopy-requests"]),
            ("normal", value("postcopy_pages_total", side="source", kind="content"), ram["normal"]),
            ("zero", value("postcopy_pages_total", side="source", kind="zero"), ram["duplicate"]),
            ("phase", value("postcopy_phase", side="source", phase=report["status"]), 1),
            ("remaining", value("postcopy_remaining_bytes", side="source"), ram["remaining"]),
        ]
        downtime = value("postcopy_downtime_seconds", side="source")
        if downtime is None or abs(downtime - report["downtime-ns"] / 1e9) > 0.5:
            fail(f"downtime {downtime} beside {report['downtime-ns']} ns")
    if "destination" in report:
        side = report["destination"]
        expected += [
            ("received", value("postcopy_received_bytes_total", side="destination"), side["received-bytes"]),
            ("faults", value("postcopy_faults_total", side="destination"), side["faults"]),
            ("asked", value("postcopy_requests_total", side="destination"), side["requests"]),
            ("zeroes", value("postcopy_pages_total", side="destination", kind="zero"), side["zero-pages"]),
            ("urgent", value("postcopy_channel_pages_total", side="destination", channel="urgent"), ram["urgent-pages"]),
            ("background", value("postcopy_channel_pages_total", side="destination", channel="background"), ram["background-pages"]),
            ("arrived", value("postcopy_phase", side="destination", phase=side["status"]), 1),
            ("missing", value("postcopy_remaining_bytes", side="destination"), 0),
            ("waiting", value("postcopy_blocked_vcpus", side="destination"), 0),
        ]
        for vcpu, nanoseconds in enumerate(report.get("postcopy-vcpu-blocktime-ns", [])):
            seconds = value("postcopy_blocktime_seconds_total", side="destination", vcpu=str(vcpu))
            if seconds is None or abs(seconds - nanoseconds / 1e9) > 1e-9:
                fail(f"blocktime of vCPU {vcpu} is {seconds} beside {nanoseconds} ns")
        if "postcopy-latency-dist" in report:
            count = value("postcopy_fault_latency_seconds_count", side="destination")
            expected.append(("waits", count, sum(report["postcopy-latency-dist"])))
    for name, found, wanted in expected:
        if found != wanted:
            fail(f"{name}: the last text says {found}, the report {wanted}")


def main():
    process = subprocess.Popen(
        [*sys.argv[1:], "--metrics", "tcp:127.0.0.1:0", "--json", "-"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    address, lines = None, []
    for line in process.stderr:
        lines.append(line)
        found = re.search(r"metrics at tcp:(\S+),", line)
        if found:
            address = urllib.parse.urlunsplit(("http", found[1], "/metrics", "", ""))
            break
    if address is None:
        fail("it does not say where: " + "".join(lines))
    words = threading.Thread(target=process.stderr.read)
    words.start()
    output = []
    reader = threading.Thread(target=lambda: output.append(process.stdout.read()))
    reader.start()

    if refused(address.replace("/metrics", "/")) != 404 or refused(address, "POST") != 405:
        fail("what is no GET of /metrics is not refused")
    before, count, deadline = {}, 0, time.monotonic() + SECONDS_MAX
    phases = set()
    while True:
        if time.monotonic() > deadline:
            process.kill()
            fail("it did not end")
        try:
            text = scrape(address)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            break
        now = samples(text)
        for key, (kind, value) in before.items():
            if key not in now:
                fail(f"{key} is gone")
            if kind != "gauge" and now[key][1] < value:
                fail(f"{key} fell from {value} to {now[key][1]}")
        for side in ("source", "destination"):
            current = [
                dict(labels)["phase"] for (name, labels), (_, value) in now.items()
                if name == "postcopy_phase" and value == 1 and ("side", side) in labels
            ]
            phases.update(current)
        before, count = now, count + 1
        time.sleep(0.03)
    status = process.wait()
    reader.join()
    words.join()
    if status != 0:
        fail(f"it ended with {status}")
    if count < 5 or len(phases) < 3:
        fail(f"only {count} scrapes, in {phases}")
    compare(before, json.loads(output[0]))
    print(f"good: {count} scrapes")


main()
