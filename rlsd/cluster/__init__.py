"""What a Kubernetes cluster has and lacks for the chart, before `helm install`.

    chart.py      Helm renders the chart with the user's values
    wanted.py     what those objects ask of a cluster
    asking.py     kubectl, with deadlines
    facts.py      all that is asked, once
    findings.py   what (facts, wanted) come to: access, room, storage, network, admission, images
    attempts.py   what only a pod can tell

Helm and kubectl are asked, as subprocesses: whoever is about to install has both, with his own
credentials, plugins and proxies; and what Helm renders is what will be installed, to the letter.
"""
