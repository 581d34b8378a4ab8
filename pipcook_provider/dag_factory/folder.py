"""All pipeline documents of a dags folder, through one loader file."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from airflow.sdk import DAG, get_parsing_context

from pipcook_provider.dag_factory.building import DocumentSource, load_pipeline
from pipcook_provider.errors import PipcookError, Problem, SpecError
from pipcook_provider.plan import dag_id_of, dag_id_taken
from pipcook_provider.spec.folder import LONGEST_PATH, find_json_files, has_dag_file, is_pipeline_file


def load_pipelines(folder: str | Path) -> dict[str, DAG]:
    """Build the DAGs of all pipeline documents in a folder and the folders below it.

    A ``.json`` file without a pipeline in it is left alone, as is a document with a DAG file of its own. A document that
    cannot be used harms no other: it stands in the result as a DAG without tasks, which Airflow shows as an import error
    of that document. When Airflow parses for one task, only the document of that task's DAG is read.

    :param folder: the folder, or a file in it: a loader passes its ``__file__``.
    :returns: DAGs by dag_id, ready for ``globals().update(...)``.
    """
    folder = Path(folder).absolute()
    folder = folder.parent if folder.is_file() else folder
    wanted = get_parsing_context().dag_id
    if wanted is not None:
        return _load_one(folder, wanted)
    dags: dict[str, DAG] = {}
    sources: dict[str, Path] = {}
    for name, path in find_json_files(folder):
        dag_id = dag_id_of(name)
        try:
            if has_dag_file(path) or not is_pipeline_file(path):
                continue
            if dag_id in sources:
                raise SpecError(str(path), (Problem.of_document(dag_id_taken(dag_id, sources[dag_id])),))
            dags[dag_id] = load_pipeline(path, dag_id, source=DocumentSource(None, name))
        except Exception as exc:  # whatever Airflow or the file system say of a document harms that document only
            stand_in = f"{dag_id[:200]}__{len(dags)}" if dag_id in dags or len(dag_id) > 200 else dag_id
            dags[stand_in] = _BrokenPipeline.of(path, folder, stand_in, exc)
        sources.setdefault(dag_id, path)
    return dags


def _load_one(folder: Path, wanted: str) -> dict[str, DAG]:
    for name, path in find_json_files(folder):
        if dag_id_of(name) == wanted and not has_dag_file(path) and is_pipeline_file(path):
            return {wanted: load_pipeline(path, wanted, source=DocumentSource(None, name))}
    return {}


class _BrokenPipeline(DAG):
    """Stands for a document that cannot be used.

    Airflow would show an exception of the loader as an import error of the loader, and take down every DAG with it.
    Errors of serialization, though, it files under the DAG's own path. So this DAG claims the document's path, and
    cannot be serialized.
    """

    _document: Path
    _problem: str

    @classmethod
    def of(cls, path: Path, folder: Path, dag_id: str, error: Exception) -> _BrokenPipeline:
        dag = cls(dag_id=dag_id, schedule=None)
        dag._document = path.relative_to(folder)
        own = isinstance(error, PipcookError)
        dag._problem = str(error) if own else f"{path}: it cannot be read: {type(error).__name__}: {error}"
        return dag

    def validate(self) -> None:
        """Claim the document's path: called after the importer has noted the loader's."""
        if self.relative_fileloc:
            path = str(Path(self.relative_fileloc).parent / self._document)
            self.relative_fileloc = path if len(path) <= LONGEST_PATH else f"...{path[3 - LONGEST_PATH :]}"
            self.fileloc = self.relative_fileloc  # by which Airflow 3.1 still files the error

    def get_serialized_fields(self) -> NoReturn:  # type: ignore[override]
        """Refuse to be serialized, with the reason that a person is to read."""
        from airflow.exceptions import SerializationError

        raise SerializationError(self._problem)
