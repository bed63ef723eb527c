{{/* The chart's name, or what replaces it. */}}
{{- define "tidegate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of the release's resources: at most 50 characters, as suffixes are added to it. */}}
{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "tidegate.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "tidegate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tidegate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tidegate.labels" -}}
{{- $labels := dict
  "helm.sh/chart" (include "tidegate.chart" .)
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "tidegate"
}}
{{- toYaml (mergeOverwrite (deepCopy .Values.commonLabels) $labels (include "tidegate.selectorLabels" . | fromYaml)) }}
{{- end }}

{{- define "tidegate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tidegate.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "tidegate.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* Releases that serve different namespaces write different statuses: they must not share a Lease. */}}
{{- define "tidegate.leaseName" -}}
{{- $name := printf "tidegate-%s" .Values.class }}
{{- if .Values.watchNamespaces }}
{{- $name = printf "%s-%s" $name (include "tidegate.fullname" .) }}
{{- end }}
{{- default $name .Values.leaseName }}
{{- end }}

{{- define "tidegate.publishService" -}}
{{- default (printf "%s/%s" .Release.Namespace (include "tidegate.fullname" .)) .Values.publishService }}
{{- end }}

{{- define "tidegate.leaseNamespace" -}}
{{- default .Release.Namespace .Values.leaseNamespace }}
{{- end }}

{{/* The port of a listen address such as [::]:8443, or nothing when the listener is off. */}}
{{- define "tidegate.port" -}}
{{- if ne . "off" }}{{ regexFind "[0-9]+$" . }}{{ end }}
{{- end }}

{{/* The endpoint that a ServiceMonitor or PodMonitor scrapes; takes its values. */}}
{{- define "tidegate.scrape" -}}
port: admin
path: /metrics
honorLabels: {{ .honorLabels }}
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The milliseconds of a duration such as 1m30s. */}}
{{- define "tidegate.milliseconds" -}}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+(ms|h|m|s)" . -1 }}
{{- $factor := get (dict "h" 3600000 "m" 60000 "s" 1000 "ms" 1) (regexFind "[a-z]+" .) }}
{{- $sum = add $sum (mul (regexFind "[0-9]+" . | atoi) $factor) }}
{{- end }}
{{- $sum }}
{{- end }}

{{/* Values that are fine one by one and not together. */}}
{{- define "tidegate.validate" -}}
{{- include "tidegate.validateCloud" . }}
{{- with .Values.drain }}
{{- $spread := include "tidegate.milliseconds" .spread | int64 }}
{{- $timeout := include "tidegate.milliseconds" .timeout | int64 }}
{{- if ge $spread $timeout }}
{{- fail (printf "drain.spread (%s) must be shorter than drain.timeout (%s): the connections that are closed last need time to end." .spread .timeout) }}
{{- end }}
{{- $needed := add 5 (div (add (include "tidegate.milliseconds" .delay) $timeout 999) 1000) }}
{{- if lt (int64 $.Values.terminationGracePeriodSeconds) $needed }}
{{- fail (printf "terminationGracePeriodSeconds (%d) is too short for drain.delay (%s) and drain.timeout (%s): pods would be killed while they close their connections. Set it to at least %d, or shorten drain.delay or drain.timeout." (int64 $.Values.terminationGracePeriodSeconds) .delay .timeout $needed) }}
{{- end }}
{{- end }}
{{- if and (eq .Values.secrets.access "referenced") .Values.secrets.selector }}
{{- fail "secrets.selector requires secrets.access: all. With \"referenced\", Tidegate selects Secrets by name, not by labels. Remove secrets.selector, or set secrets.access to \"all\"." }}
{{- end }}
{{- $roles := list }}
{{- range .Values.secrets.roles }}
{{- if has .namespace $roles }}
{{- fail (printf "secrets.roles has two entries for the namespace %s: put all names into one entry." .namespace) }}
{{- end }}
{{- $roles = append $roles .namespace }}
{{- end }}
{{- if and (ne .Values.secrets.access "referenced") .Values.secrets.roles }}
{{- fail "secrets.roles requires secrets.access: referenced. With \"all\", Tidegate may already read every Secret." }}
{{- end }}
{{- if and (eq .Values.httpsListen "off") (eq .Values.httpListen "off") }}
{{- fail "httpsListen and httpListen are both \"off\": no client could reach Tidegate. Set one of them to an address, such as \"[::]:8443\"." }}
{{- end }}
{{- $ports := list }}
{{- range list .Values.httpsListen .Values.httpListen .Values.adminListen }}
{{- with include "tidegate.port" . }}
{{- if has . $ports }}
{{- fail (printf "two of httpsListen, httpListen and adminListen use port %s: give each its own port." .) }}
{{- end }}
{{- $ports = append $ports . }}
{{- end }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled are both true: every pod would be scraped twice. Set one of them to false." }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.adminService.enabled) }}
{{- fail "metrics.serviceMonitor.enabled needs the admin Service: set adminService.enabled to true, or use metrics.podMonitor." }}
{{- end }}
{{- if .Values.autoscaling.enabled }}
{{- with .Values.autoscaling }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
{{- fail (printf "autoscaling.minReplicas (%d) is more than autoscaling.maxReplicas (%d): raise maxReplicas or lower minReplicas." (int .minReplicas) (int .maxReplicas)) }}
{{- end }}
{{- if not (or .targetCPUUtilizationPercentage .targetMemoryUtilizationPercentage .metrics) }}
{{- fail "autoscaling.enabled is true, but there is no metric to scale by: set autoscaling.targetCPUUtilizationPercentage, targetMemoryUtilizationPercentage or metrics." }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* "true" where a rule of hostnamePolicy selects namespaces by labels, which takes the right to read those. */}}
{{- define "tidegate.policyAsksForLabels" -}}
{{- range (.Values.hostnamePolicy).rules }}
{{- if (.namespaceSelector).matchLabels }}true{{ end }}
{{- end }}
{{- end }}
