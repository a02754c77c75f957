{{/* The name of everything that is made: the release, with the chart's name. */}}
{{- define "karuta.name" -}}
{{ printf "%s-karuta" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What the pod is selected by. */}}
{{- define "karuta.selector" -}}
app.kubernetes.io/name: karuta
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "karuta.labels" -}}
{{ include "karuta.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
