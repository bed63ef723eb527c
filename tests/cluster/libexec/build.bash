# shellcheck shell=bash
# How setup builds what comes from Go modules. Sourced by setup; part of what a build is keyed by (see common.bash).

# No cgo, so that the programs run in any container; no debug information, which makes compiling faster.
BUILD_FLAGS=(-trimpath -gcflags=all=-dwarf=false)
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false

build_helm() { # DIR
  GOBIN=$1 go install "${BUILD_FLAGS[@]}" -ldflags='-s -w' "helm.sh/helm/v4/cmd/helm@$HELM_VERSION"
}

build_kube() { # DIR
  local link="-s -w" package major minor name
  IFS=. read -r major minor _ <<<"${KUBERNETES_VERSION#v}"
  # without these the API server calls itself v0.0.0-master, and a chart's kubeVersion refuses it
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    link+=" -X $package.gitVersion=$KUBERNETES_VERSION -X $package.gitMajor=$major -X $package.gitMinor=$minor"
    link+=" -X $package.gitTreeState=clean"
  done
  (cd "$HARNESS/kube" && go build -mod=readonly "${BUILD_FLAGS[@]}" -ldflags="$link" -o "$1/" . ./pause)
  for name in "${KUBE_PROGRAMS[@]}"; do
    ln -s kube "$1/$name"
  done
  python3 "$LIBEXEC/mkimage.py" --out "$1/pause.tar" --reference registry.k8s.io/pause:3.10 \
    --user 65535:65535 --entrypoint /pause --file "$1/pause:/pause:755"
}
