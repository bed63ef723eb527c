{{/* What the preset `cloud` puts in front, by its name in files/networks.yaml; nothing for none. */}}
{{- define "tidegate.network" -}}
{{- $passthrough := dict "gcp" "gcp-passthrough" "azure" "azure-lb" }}
{{- if eq .Values.cloud "none" }}
{{- else if and (kindIs "bool" .Values.ingress.enabled) (not .Values.ingress.enabled) (hasKey $passthrough .Values.cloud) }}
{{- get $passthrough .Values.cloud }}
{{- else }}
{{- .Values.cloud }}
{{- end }}
{{- end }}

{{/* All that files/networks.yaml says of it. */}}
{{- define "tidegate.networkFacts" -}}
{{- $name := include "tidegate.network" . }}
{{- range (.Files.Get "files/networks.yaml" | fromYaml).networks }}
{{- if eq .name $name }}
{{- toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Something, where the load balancer is made from an Ingress: it ends TLS, and speaks plain HTTP to Tidegate. */}}
{{- define "tidegate.hasIngress" -}}
{{- if has (include "tidegate.network" .) (list "aws-alb" "gcp" "azure") }}true{{ end }}
{{- end }}

{{- define "tidegate.serviceType" -}}
{{- if and (include "tidegate.hasIngress" .) (eq .Values.service.type "LoadBalancer") }}ClusterIP{{ else }}{{ .Values.service.type }}{{ end }}
{{- end }}

{{- define "tidegate.loadBalancerClass" -}}
{{- if eq .Values.cloud "aws-nlb" }}
{{- default "service.k8s.aws/nlb" .Values.service.loadBalancerClass }}
{{- else }}
{{- .Values.service.loadBalancerClass }}
{{- end }}
{{- end }}

{{/* Whose X-Forwarded-* headers count, as a list. */}}
{{- define "tidegate.trustedProxies" -}}
{{- $facts := include "tidegate.networkFacts" . | fromYaml }}
{{- concat .Values.trustedProxies (default list $facts.proxies) | uniq | toYaml }}
{{- end }}

{{/* The seconds for which a pod that was told to end still has connections: load balancers must not cut them before. */}}
{{- define "tidegate.goodbyeSeconds" -}}
{{- $delay := include "tidegate.milliseconds" .Values.drain.delay | int64 }}
{{- $timeout := include "tidegate.milliseconds" .Values.drain.timeout | int64 }}
{{- min 3600 (div (add $delay $timeout 999) 1000) }}
{{- end }}

{{/* Annotations of the Service for clients. */}}
{{- define "tidegate.serviceAnnotations" -}}
{{- $network := include "tidegate.network" . }}
{{- $facts := include "tidegate.networkFacts" . | fromYaml }}
{{- $preset := dict }}
{{- if eq $network "aws-nlb" }}
{{- /* Targets by IP: no hop over a node, and the check can be of the pod. Addresses of clients are kept, as Tidegate reads no PROXY protocol. */}}
{{- $preset = dict
  "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type" "ip"
  "service.beta.kubernetes.io/aws-load-balancer-scheme" "internet-facing"
  "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes" (printf "preserve_client_ip.enabled=true,deregistration_delay.timeout_seconds=%s" (include "tidegate.goodbyeSeconds" .))
  "service.beta.kubernetes.io/aws-load-balancer-healthcheck-protocol" "http"
  "service.beta.kubernetes.io/aws-load-balancer-healthcheck-port" (include "tidegate.port" .Values.adminListen)
  "service.beta.kubernetes.io/aws-load-balancer-healthcheck-path" "/readyz"
  "service.beta.kubernetes.io/aws-load-balancer-healthcheck-success-codes" "200"
  "service.beta.kubernetes.io/aws-load-balancer-healthcheck-interval" "5"
  "service.beta.kubernetes.io/aws-load-balancer-healthcheck-healthy-threshold" "2"
  "service.beta.kubernetes.io/aws-load-balancer-healthcheck-unhealthy-threshold" "2"
}}
{{- $listeners := dict "https" .Values.httpsListen "http" .Values.httpListen }}
{{- range $name, $listen := $listeners }}
{{- if ne $listen "off" }}
{{- $key := printf "service.beta.kubernetes.io/aws-load-balancer-listener-attributes.TCP-%d" (int (get $.Values.service.ports $name)) }}
{{- $_ := set $preset $key (printf "tcp.idle_timeout.seconds=%d" (int $facts.idle.maximum)) }}
{{- end }}
{{- end }}
{{- else if eq $network "gcp" }}
{{- $preset = dict
  "cloud.google.com/neg" (dict "ingress" true | toJson)
  "cloud.google.com/backend-config" (dict "default" (include "tidegate.fullname" .) | toJson)
}}
{{- else if eq $network "gcp-passthrough" }}
{{- $preset = dict "cloud.google.com/l4-rbs" "enabled" }}
{{- else if eq $network "azure-lb" }}
{{- /* In minutes. Load balancers take more, but older cloud providers no more than this. */}}
{{- $preset = dict "service.beta.kubernetes.io/azure-load-balancer-tcp-idle-timeout" "30" }}
{{- end }}
{{- mergeOverwrite $preset .Values.service.annotations | toYaml }}
{{- end }}

{{/* Annotations of the Ingress. */}}
{{- define "tidegate.ingressAnnotations" -}}
{{- $network := include "tidegate.network" . }}
{{- $facts := include "tidegate.networkFacts" . | fromYaml }}
{{- $admin := include "tidegate.port" .Values.adminListen }}
{{- $goodbye := include "tidegate.goodbyeSeconds" . }}
{{- $preset := dict }}
{{- if eq $network "aws-alb" }}
{{- $listeners := list (dict "HTTP" (int .Values.service.ports.http)) (dict "HTTPS" (int .Values.service.ports.https)) }}
{{- $preset = dict
  "alb.ingress.kubernetes.io/scheme" "internet-facing"
  "alb.ingress.kubernetes.io/target-type" "ip"
  "alb.ingress.kubernetes.io/listen-ports" (toJson $listeners)
  "alb.ingress.kubernetes.io/backend-protocol" "HTTP"
  "alb.ingress.kubernetes.io/load-balancer-attributes" (printf "idle_timeout.timeout_seconds=%d" (int $facts.idle.maximum))
  "alb.ingress.kubernetes.io/target-group-attributes" (printf "deregistration_delay.timeout_seconds=%s" $goodbye)
  "alb.ingress.kubernetes.io/healthcheck-protocol" "HTTP"
  "alb.ingress.kubernetes.io/healthcheck-port" $admin
  "alb.ingress.kubernetes.io/healthcheck-path" "/readyz"
  "alb.ingress.kubernetes.io/success-codes" "200"
  "alb.ingress.kubernetes.io/healthcheck-interval-seconds" "5"
  "alb.ingress.kubernetes.io/healthcheck-timeout-seconds" "3"
  "alb.ingress.kubernetes.io/healthy-threshold-count" "2"
  "alb.ingress.kubernetes.io/unhealthy-threshold-count" "2"
}}
{{- else if eq $network "gcp" }}
{{- /* GKE goes by the annotation, and by no Ingress that names a class in its spec. */}}
{{- $preset = dict "kubernetes.io/ingress.class" (default "gce" .Values.ingress.className) }}
{{- else if eq $network "azure" }}
{{- $preset = dict
  "appgw.ingress.kubernetes.io/backend-protocol" "http"
  "appgw.ingress.kubernetes.io/request-timeout" (printf "%d" (int $facts.idle.maximum))
  "appgw.ingress.kubernetes.io/health-probe-port" $admin
  "appgw.ingress.kubernetes.io/health-probe-path" "/readyz"
  "appgw.ingress.kubernetes.io/health-probe-status-codes" "200"
  "appgw.ingress.kubernetes.io/health-probe-interval" "5"
  "appgw.ingress.kubernetes.io/health-probe-timeout" "3"
  "appgw.ingress.kubernetes.io/health-probe-unhealthy-threshold" "2"
  "appgw.ingress.kubernetes.io/connection-draining" "true"
  "appgw.ingress.kubernetes.io/connection-draining-timeout" $goodbye
}}
{{- if ne (int .Values.service.ports.https) 443 }}
{{- $_ := set $preset "appgw.ingress.kubernetes.io/override-frontend-port" (printf "%d" (int .Values.service.ports.https)) }}
{{- end }}
{{- end }}
{{- mergeOverwrite $preset .Values.ingress.annotations | toYaml }}
{{- end }}

{{/* Whether a port is in a list such as [443, "8000-8999"]: something, or nothing. Takes a list of the port and that list. */}}
{{- define "tidegate.portIsIn" -}}
{{- $port := index . 0 | int }}
{{- range index . 1 }}
{{- $ends := splitList "-" (toString .) }}
{{- if and (le (first $ends | atoi) $port) (le $port (last $ends | atoi)) }}true{{ end }}
{{- end }}
{{- end }}

{{/* Values that cannot work at the cloud that they name. */}}
{{- define "tidegate.validateCloud" -}}
{{- $cloud := .Values.cloud }}
{{- $facts := include "tidegate.networkFacts" . | fromYaml }}
{{- if kindIs "bool" .Values.ingress.enabled }}
{{- if and .Values.ingress.enabled (has $cloud (list "none" "aws-nlb" "cloudflare")) }}
{{- fail (printf "ingress.enabled is true, but cloud: %s creates no load balancer from an Ingress. Remove ingress.enabled, or set cloud to aws-alb, gcp or azure." $cloud) }}
{{- end }}
{{- if and (not .Values.ingress.enabled) (eq $cloud "aws-alb") }}
{{- fail "ingress.enabled is false, but cloud: aws-alb requires an Ingress. Remove ingress.enabled, or set cloud to aws-nlb, which passes TCP." }}
{{- end }}
{{- end }}
{{- if ne $cloud "none" }}
{{- $public := default .Values.service.ports.https .Values.publicHttpsPort }}
{{- $name := ternary "publicHttpsPort" "service.ports.https" (not (empty .Values.publicHttpsPort)) }}
{{- if or (ne .Values.httpsListen "off") (include "tidegate.hasIngress" .) }}
{{- if not (include "tidegate.portIsIn" (list $public $facts.tls_ports)) }}
{{- fail (printf "%s is %d, but %s does not pass this port for wss://: clients would wait until they time out. Use one of these ports: %s." $name (int $public) $facts.title (join ", " $facts.tls_ports)) }}
{{- end }}
{{- end }}
{{- if ne .Values.httpListen "off" }}
{{- if not (include "tidegate.portIsIn" (list .Values.service.ports.http $facts.plain_ports)) }}
{{- fail (printf "service.ports.http is %d, but %s does not pass this port for ws:// and http://: clients would wait until they time out. Use one of these ports: %s; or set httpListen to \"off\"." (int .Values.service.ports.http) $facts.title (join ", " $facts.plain_ports)) }}
{{- end }}
{{- end }}
{{- if and (eq (int $facts.layer) 4) (ne .Values.service.type "LoadBalancer") }}
{{- fail (printf "service.type is %s, but the %s requires a Service of the type LoadBalancer. Remove service.type, or set cloud to none." .Values.service.type $facts.title) }}
{{- end }}
{{- end }}
{{- if include "tidegate.hasIngress" . }}
{{- if eq .Values.httpListen "off" }}
{{- fail (printf "httpListen is \"off\", but the %s ends TLS and sends plain HTTP to Tidegate. Set httpListen to an address, such as \"[::]:8080\"." $facts.title) }}
{{- end }}
{{- $annotation := dict
  "aws-alb" (list "alb.ingress.kubernetes.io/certificate-arn")
  "gcp" (list "networking.gke.io/managed-certificates" "ingress.gcp.kubernetes.io/pre-shared-cert" "networking.gke.io/certmap")
  "azure" (list "appgw.ingress.kubernetes.io/appgw-ssl-certificate")
}}
{{- $found := concat .Values.ingress.tls (ternary .Values.ingress.hosts list (eq $cloud "aws-alb")) }}
{{- range get $annotation $cloud }}
{{- if hasKey $.Values.ingress.annotations . }}
{{- $found = append $found . }}
{{- end }}
{{- end }}
{{- if not $found }}
{{- $ways := ternary "ingress.hosts, for which the controller finds certificates in ACM," "ingress.tls with the name of a Secret" (eq $cloud "aws-alb") }}
{{- fail (printf "the %s ends TLS, but has no certificate: set %s or, in ingress.annotations, %s." $facts.title $ways (get $annotation $cloud | join " or ")) }}
{{- end }}
{{- if not (include "tidegate.trustedProxies" . | fromYamlArray) }}
{{- fail (printf "trustedProxies is empty, but the %s ends TLS. Tidegate uses X-Forwarded-Proto only from trusted proxies, so routes would refuse all clients as plaintext. Set trustedProxies to the networks of the load balancer's subnets, such as [10.0.0.0/16]." $facts.title) }}
{{- end }}
{{- end }}
{{- end }}
