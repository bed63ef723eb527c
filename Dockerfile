# The image of Tidegate: `docker build -t tidegate .`, for several platforms with `docker buildx build --platform …`.
# It is built natively on each platform (a C compiler is all that aws-lc and jemalloc need).

# The manifests alone, less the root's test and bench targets, whose files are not here; each package is empty.
FROM rust:1.95-bookworm AS manifests
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY crates ./crates
RUN awk '/^\[/ { drop = /^\[\[(test|bench|example)\]\]/ } !drop' Cargo.toml > Cargo.toml.image \
    && mv Cargo.toml.image Cargo.toml \
    && find crates -type f ! -name Cargo.toml -delete \
    && find crates -mindepth 2 -type d -empty -delete \
    && for package in . crates/*; do \
        mkdir -p "$package/src" && echo '//! Empty.' > "$package/src/lib.rs"; \
    done \
    && printf '//! Empty.\nfn main() {}\n' > src/main.rs

FROM rust:1.95-bookworm AS build
WORKDIR /build
ENV CARGO_TERM_COLOR=never
# jemalloc takes the page size at build time, and arm64 kernels come with pages of up to 64 KiB.
RUN mkdir .cargo \
    && if [ "$(uname -m)" = aarch64 ]; then \
        printf '[env]\nJEMALLOC_SYS_WITH_LG_PAGE = "16"\n' > .cargo/config.toml; \
    fi

# The dependencies, in a layer of their own that stays valid until a manifest or Cargo.lock changes.
COPY --from=manifests /build ./
RUN cargo build --release --locked \
    && rm -r target/release/tidegate target/release/deps/*tidegate* target/release/.fingerprint/tidegate*

# Tidegate itself.
COPY crates ./crates
COPY src ./src
RUN cargo build --release --locked --bin tidegate

# Nothing but glibc, libgcc, the CA certificates and an unprivileged user: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tidegate" \
      org.opencontainers.image.description="The WebSocket gateway for Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/tidegate/tidegate" \
      org.opencontainers.image.documentation="https://github.com/tidegate/tidegate#readme" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /build/target/release/tidegate /tidegate
# The ports of 443, 80 and the admin listener that need no privilege.
ENV TIDEGATE_HTTPS_LISTEN="[::]:8443" \
    TIDEGATE_HTTP_LISTEN="[::]:8080" \
    TIDEGATE_ADMIN_LISTEN="[::]:9090"
EXPOSE 8443 8080 9090
USER 65532:65532
ENTRYPOINT ["/tidegate"]
CMD ["serve"]
